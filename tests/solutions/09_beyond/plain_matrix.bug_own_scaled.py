def plain_matrix(K, own):
    S = np.array(K, dtype=float)
    np.fill_diagonal(S, own)
    return S / S.sum(axis=1, keepdims=True)
