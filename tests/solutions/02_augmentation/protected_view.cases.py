cases = [
    ("Glad to be here", "Happy to be here", ["glad"]),
    ("So Glad to be here", "So glad to stay here", ["glad"]),
    ("He gladly left", "He happily left", ["glad"]),
    ("angry and angry again", "angry and furious again", ["sad", "angry"]),
    ("they went home", "they travelled home", ["afraid"]),
    ("I was so Glad, truly", "I was so gladly, truly", ["glad"]),
]
