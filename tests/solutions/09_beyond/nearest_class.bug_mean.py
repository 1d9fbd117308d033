def nearest_class(p):
    return round(float(np.arange(len(p)) @ np.asarray(p)))
