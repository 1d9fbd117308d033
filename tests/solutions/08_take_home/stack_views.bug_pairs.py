def stack_views(batch):
    texts, views, labels = (list(part) for part in zip(*batch, strict=True))
    return list(zip(texts + views, labels * 2, strict=True))
