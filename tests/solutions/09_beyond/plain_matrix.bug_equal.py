def plain_matrix(K, own):
    C = len(K)
    S = np.full((C, C), (1 - own) / (C - 1))
    np.fill_diagonal(S, own)
    return S
