"""The colours of attention, little to much: one scale for every picture of it."""

ATTENTION = ("#f4f1e8", "#f0c36d", "#d9713c", "#8e2f52", "#2b1745")
DIFFERENCE = ("#2f6fb3", "#9dc0e0", "#f1efe9", "#eaa98a", "#b5402f")  # less, as much, more
