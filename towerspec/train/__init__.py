"""Training, calibration and evaluation of a spec on a log of impressions; `pip install 'towerspec[train]'`."""
