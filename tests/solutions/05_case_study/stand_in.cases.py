new_counts = np.random.default_rng(4).integers(0, 40, (7, 7))
new_counts += np.diag(np.arange(70, 0, -10))
cases = [
    (new_counts, (0, 1, 2), ()),
    (new_counts, (0, 1, 2), (6, 3)),
    (new_counts, (2, 4, 6), (1,)),
    (new_counts, (3, 5, 6), ()),
    (new_counts, (1, 3, 5), (0,)),
]
