def equally_good(a, b, margin=0.5):
    gap = contrast([a, b])
    if -0.5 <= gap["low"] and gap["high"] <= 0.5:
        return "equal"
    return "different" if gap["p"] < 0.05 else "cannot tell"
