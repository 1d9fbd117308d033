def rates(texts, batch_size, epochs, lr, drop_last):
    taken = epochs * (texts // batch_size if drop_last else math.ceil(texts / batch_size))
    return [lr * (1 - step / taken) for step in range(taken)]
