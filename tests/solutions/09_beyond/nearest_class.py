def nearest_class(p):
    places = np.arange(len(p))
    expected = abs(places[:, None] - places) @ np.asarray(p)
    return int(np.flatnonzero(expected <= expected.min() + 1e-9)[0])
