def nearest_label(features, labels, k):
    h = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = h @ h.T
    np.fill_diagonal(cosines, -np.inf)
    return labels[cosines.argmax(1)]
