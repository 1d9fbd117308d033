def equally_good(a, b, margin=0.5):
    gap = contrast([a, b])
    if -margin <= gap["low"] and gap["high"] <= margin:
        return "equal"
    return "cannot tell" if gap["p"] >= 0.05 else "different"
