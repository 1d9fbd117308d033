def entropy_of_top(probabilities, k):
    top = np.sort(probabilities)[-k:]
    top = top / top.sum()
    return -(top * np.log2(top)).sum()
