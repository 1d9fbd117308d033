def nearest_class(p):
    return int(np.argmax(p))
