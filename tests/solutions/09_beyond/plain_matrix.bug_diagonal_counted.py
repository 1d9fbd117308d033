def plain_matrix(K, own):
    K = np.array(K, dtype=float)
    S = (1 - own) * K / K.sum(axis=1, keepdims=True)
    np.fill_diagonal(S, own)
    return S
