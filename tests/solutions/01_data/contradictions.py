def contradictions(texts, labels):
    return int(
        (pd.DataFrame({"text": texts, "label": labels}).groupby("text").label.nunique() > 1).sum()
    )
