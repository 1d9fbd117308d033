def comparisons(texts, accumulate):
    return 2 * texts * (2 * texts - 1)
