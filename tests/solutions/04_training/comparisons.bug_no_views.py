def comparisons(texts, accumulate):
    rows = texts // accumulate
    return accumulate * rows * (rows - 1)
