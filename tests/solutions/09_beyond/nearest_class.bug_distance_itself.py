def nearest_class(p):
    places = np.arange(len(p))
    return float((abs(places[:, None] - places) @ np.asarray(p)).min())
