"""One HTML file in which a person reads a survey's binaries and vets them; and the list of verdicts that comes back."""
