def holm_by_hand(p, alpha):
    p = np.nan_to_num(p, nan=1)
    order = np.argsort(p)
    bounds = 0.05 / np.arange(len(p), 0, -1)
    stays = np.empty(len(p), dtype=bool)
    stays[order] = np.logical_and.accumulate(p[order] < bounds)  # the first that fails ends it
    return stays.tolist()
