def contradictions(texts, labels):
    return int(
        (
            pd.DataFrame({"text": texts, "label": labels})
            .groupby("text")
            .label.transform("nunique")
            > 1
        ).sum()
    )
