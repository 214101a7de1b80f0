"""The report: tables of all runs in; figures and one HTML file out."""
