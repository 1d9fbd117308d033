def contradictions(texts, labels):
    return int((pd.DataFrame({"text": texts, "label": labels}).groupby("text").size() > 1).sum())
