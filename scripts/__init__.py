"""Programs for people who work on this project; ``make`` runs them."""
