diagnosis = {"a": "self", "b": "lone", "c": "weight"}
