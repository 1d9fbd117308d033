def rates(texts, batch_size, epochs, lr, drop_last):
    planned = epochs * math.ceil(texts / batch_size)
    taken = epochs * (texts // batch_size) if drop_last else planned
    return [lr * (1 - step / planned) for step in range(taken)]
