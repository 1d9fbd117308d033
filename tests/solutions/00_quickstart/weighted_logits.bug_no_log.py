def weighted_logits(similarity, log_weights, labels):
    return similarity * log_weights.exp()[:, labels]  # weights the logit, not its exponential
