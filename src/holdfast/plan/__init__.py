"""Plans, rules, selections and lifecycles; gives which resource is taken by which rule."""
