def macro_and_weighted_f1(confusion):
    right, true, said = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    f1 = 2 * right / np.maximum(1, true + said)
    return f1.mean(), (f1 * said).sum() / said.sum()
