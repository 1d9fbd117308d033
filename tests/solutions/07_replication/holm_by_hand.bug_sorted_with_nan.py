def holm_by_hand(p, alpha):
    stays = [False] * len(p)
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):  # NaN stays where it is
        if not p[i] < alpha / (len(p) - rank):
            break
        stays[i] = True
    return stays
