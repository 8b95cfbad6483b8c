"""Pictures as SVG text: charts that a page shows and that stand alone as files."""
