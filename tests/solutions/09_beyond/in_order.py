def in_order(S, has, wanted):
    places = [has.index(name) for name in wanted]
    return np.asarray(S)[np.ix_(places, places)]
