diagnosis = {"a": "lone", "b": "weight", "c": "self"}
