def mended(texts, views, y):
    rows = torch.stack([texts, views], dim=1).flatten(0, 1)
    return rows, y.repeat_interleave(2)
