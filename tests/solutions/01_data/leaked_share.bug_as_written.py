def leaked_share(train_texts, test_texts):
    return np.mean([text in set(train_texts) for text in test_texts])
