def mended(texts, views, y):
    return torch.cat([texts, views]), torch.arange(len(y)).repeat(2)
