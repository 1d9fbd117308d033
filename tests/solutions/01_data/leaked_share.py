def leaked_share(train_texts, test_texts):
    known = {text.strip().lower() for text in train_texts}
    return np.mean([text.strip().lower() in known for text in test_texts])
