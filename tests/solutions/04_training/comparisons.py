def comparisons(texts, accumulate):
    rows = 2 * texts // accumulate
    return accumulate * rows * (rows - 1)
