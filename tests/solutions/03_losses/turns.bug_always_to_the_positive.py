turns = {"SCL": -1, "devastated confusable": -1, "joyful confusable": -1}
