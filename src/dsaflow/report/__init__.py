"""Figures of the HTML report: each shows measured products, none invents a number."""
