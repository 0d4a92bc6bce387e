"""What looks at models from outside: counterfactual texts.  It knows nothing of how a model was trained."""
