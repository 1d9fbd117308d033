def equally_good(a, b, margin=0.5):
    gap = contrast([a, b])
    if gap["high"] <= margin:
        return "equal"
    return "different" if gap["p"] < 0.05 else "cannot tell"
