def rates(texts, batch_size, epochs, lr, drop_last):
    planned = epochs * math.ceil(texts / batch_size)
    return [lr * (1 - step / planned) for step in range(epochs * (texts // batch_size))]
