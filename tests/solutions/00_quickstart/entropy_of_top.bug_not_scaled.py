def entropy_of_top(probabilities, k):
    top = np.sort(probabilities)[-k:]
    return -(top * np.log2(top)).sum()
