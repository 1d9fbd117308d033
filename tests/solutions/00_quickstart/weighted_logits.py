def weighted_logits(similarity, log_weights, labels):
    return similarity + log_weights[:, labels]
