"""What was found about a model and its patients, as typed values, and how it is worded: numbers, names, sentences."""
