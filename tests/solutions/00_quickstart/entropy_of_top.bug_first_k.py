def entropy_of_top(probabilities, k):
    top = probabilities[:k] / probabilities[:k].sum()
    return -(top * np.log2(top)).sum()
