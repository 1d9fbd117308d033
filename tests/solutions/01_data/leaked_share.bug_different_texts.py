def leaked_share(train_texts, test_texts):
    train, test = ({text.strip().lower() for text in some} for some in (train_texts, test_texts))
    return len(train & test) / len(test)
