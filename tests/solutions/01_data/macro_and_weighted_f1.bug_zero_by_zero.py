def macro_and_weighted_f1(confusion):
    right, true, said = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore"):
        precision, recall = right / said, right / true
        f1 = 2 * precision * recall / (precision + recall)
    return f1.mean(), (f1 * true).sum() / true.sum()
