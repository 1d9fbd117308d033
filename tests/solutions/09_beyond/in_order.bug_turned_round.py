def in_order(S, has, wanted):
    places = [wanted.index(name) for name in has]
    return np.asarray(S)[np.ix_(places, places)]
