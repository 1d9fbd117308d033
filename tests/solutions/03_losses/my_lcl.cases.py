new_h = normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(23)))
new_log_w = torch.randn(8, 4, generator=torch.Generator().manual_seed(24)).log_softmax(1)
cases = [
    (new_h, torch.tensor([1, 0, 1, 3, 0, 1, 2, 0]), new_log_w, 0.3),  # two are alone
    (new_h[:6], torch.tensor([0, 0, 2, 2, 0, 1]), new_log_w[:6], 0.1),
]
