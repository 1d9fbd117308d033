def leaked_share(train_texts, test_texts):
    seen = {text.strip().lower() for text in test_texts}
    return np.mean([text.strip().lower() in seen for text in train_texts])
