def equally_good(a, b, margin=0.5):
    gap = contrast([a, b])
    if -margin <= gap["low"] and gap["high"] <= margin:
        return "equal"
    return "different" if gap["low"] > margin or gap["high"] < -margin else "cannot tell"
