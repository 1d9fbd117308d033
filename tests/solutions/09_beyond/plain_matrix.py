def plain_matrix(K, own):
    others = np.array(K, dtype=float)
    np.fill_diagonal(others, 0)
    S = (1 - own) * others / others.sum(axis=1, keepdims=True)
    np.fill_diagonal(S, own)
    return S
